"""Recording what people verified: names, tables, folders, keywords, hits."""
