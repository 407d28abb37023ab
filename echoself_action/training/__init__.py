"""Steps: batches, schedule, optimizer, the loop, and the state that it goes on from."""
