"""An exported student at work on pictures, videos and cameras: faces found, cut out, answered for, drawn and written."""
