"""The two functions of the energy auction: its results (Lambda A), and what becomes of an order (Lambda B)."""
