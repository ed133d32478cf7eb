"""The search for a configuration that keeps a model as good as it has to be."""
