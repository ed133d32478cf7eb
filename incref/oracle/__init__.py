"""The exact judge: what every operation has to return, in integers and `Fraction`, written to be checked by eye.

It knows the stored facts of the format table and nothing else of incref.
"""
