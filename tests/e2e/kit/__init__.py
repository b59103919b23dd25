"""What the end-to-end tests look at a running stack with: from outside, as any script could."""
