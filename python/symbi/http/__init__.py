"""What reaches other machines by HTTP, and what they reach."""
