"""Tables, figures and files from the results of studies."""
