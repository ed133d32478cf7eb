"""Fast implementations of the operations of `incref.ops`, one package a backend."""
