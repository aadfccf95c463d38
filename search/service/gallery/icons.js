/** Line icons, 24 by 24, as one path each. */
export const ICONS = {
  photos: "M3 5h8v6H3zM13 5h8v6h-8zM3 13h8v6H3zM13 13h8v6h-8z",
  find: "M10.5 4a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13M15.5 15.5L21 21",
  label: "M4 4h8l8.5 8.5l-7.5 7.5L4 12zM8 8h.01",
  copies: "M8 8h12v12H8zM16 8V4H4v12h4",
  clusters:
    "M7 5a2.5 2.5 0 1 0 0 5a2.5 2.5 0 1 0 0-5M16 4a1.5 1.5 0 1 0 0 3a1.5 1.5 0 1 0 0-3" +
    "M17 13a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7M6.5 15a2 2 0 1 0 0 4a2 2 0 1 0 0-4",
  sightings:
    "M12 21s7-6.5 7-11.5a7 7 0 0 0-14 0C5 14.5 12 21 12 21zM12 7a2.5 2.5 0 1 0 0 5a2.5 2.5 0 1 0 0-5",
  bird: "M3 8l3-1a4.5 4.5 0 0 1 8.5-.5L15 9c3 1 5 4 6 8l-5-1a8 8 0 0 1-10-5zM10 8h.01M10 16v5M13 16.5V21",
  check: "M4 12.5l5.5 5.5L20 6.5",
  close: "M6 6l12 12M18 6L6 18",
  undo: "M8 4L4 8l4 4M4 8h10a6 6 0 0 1 0 12h-4",
  next: "M5 12h14M13 6l6 6-6 6",
  back: "M19 12H5M11 6l-6 6 6 6",
  help: "M9 9a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 18h.01M12 2.5a9.5 9.5 0 1 0 0 19a9.5 9.5 0 1 0 0-19",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  camera: "M4 7h4l1.5-2h5L16 7h4v12H4zM12 9.5a3.5 3.5 0 1 0 0 7a3.5 3.5 0 1 0 0-7",
  clock: "M12 3a9 9 0 1 0 0 18a9 9 0 1 0 0-18M12 7v5.5l3.5 2",
  folder: "M3 6h6l2 2h10v11H3z",
  image: "M3 5h18v14H3zM3 16l5-5 4 4 3-3 6 5M15.5 9h.01",
  region: "M4 8V4h4M16 4h4v4M20 16v4h-4M8 20H4v-4",
  warning: "M12 4l9 16H3zM12 10v4.5M12 17.5h.01",
  pen: "M4 20l1-4L16.5 4.5l3 3L8 19z",
  unsure: "M3 13c3-5 6-5 9-1.5s6 3.5 9-1.5",
  filter: "M4 6h16M7 12h10M10 18h4",
  calendar: "M4 6h16v14H4zM4 10h16M8 3v5M16 3v5",
  similar: "M4 4h7v7H4zM13 13h7v7h-7zM16 4v6M13 7h6",
  lock: "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
};
