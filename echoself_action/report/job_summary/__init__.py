"""The job summary: Markdown about what a run did, which is what its users read.

layout.py has the parts that every summary has, in their order. The other modules fill them, one for each kind of run.
"""
