"""The GPEN network: the plain generator, the fused one that runs, and loading weights."""
