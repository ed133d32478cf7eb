"""The suite's own matter: the reference operations compared with the exact oracle, exhaustively, and what came out."""
