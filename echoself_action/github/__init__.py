"""GitHub's REST API: artifacts of the triggering workflow run, tags and releases."""
