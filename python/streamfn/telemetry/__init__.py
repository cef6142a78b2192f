"""What is measured: counters, histograms, their history, and the page of metrics."""
