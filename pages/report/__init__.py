"""The report: everything that is known of a study as one file that needs no network, drawn with the pages' figures."""
