"""GPEN face restoration."""
