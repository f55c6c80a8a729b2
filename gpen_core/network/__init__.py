"""The GPEN network: its architecture, the plain generator, and how weights become one."""
