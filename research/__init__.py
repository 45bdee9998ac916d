"""Studies, published models beside ours, benchmarks: whatever is not the product."""
