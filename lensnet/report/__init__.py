"""A report as people read it: in a terminal, on a page, in a pull request, as a figure, and as strict JSON."""
