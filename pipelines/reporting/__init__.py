"""The parts of the report: what is read (entry), the tables, the charts, the page."""
