"""What a run reports: log, progress, GitHub Actions, the job summary, HTML pages, descriptions."""
