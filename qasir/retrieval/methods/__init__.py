"""Ways of ranking, one a file; `named` lists them."""
