"""Call-details ingest: files become batches, and every record is accounted for."""
