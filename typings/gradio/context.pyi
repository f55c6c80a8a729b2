from . import Block

class Context:
    block: Block | None  # what components are being put into
