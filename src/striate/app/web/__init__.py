"""One local web server, one design: pages register their routes here; nothing they need comes from elsewhere."""
