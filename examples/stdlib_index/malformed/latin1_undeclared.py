café = "latin-1 without a declaration"
NAME = "été"
