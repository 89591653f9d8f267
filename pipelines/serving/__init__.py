"""``gen serve``: a registered model behind HTTP, with MLflow's scoring protocol."""
