"""The demo: a folder with a page that runs the model in a browser, for a static Space or any other web server."""
