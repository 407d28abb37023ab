"""What a person sees of a run: log, progress, outputs, the job summary."""
