"""What is asked of GitHub: the artifacts of the workflow run that triggered this one."""
