"""Groups in unlabelled imagery: made, kept, edited, shown."""
