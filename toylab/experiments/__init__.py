"""Experiments: runs of the optimizers' own code and what is measured of them.  Nothing here knows a prediction:
`theory` is never imported, nor is a claim.
"""
