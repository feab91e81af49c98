"""Names that users give, as Matplotlib can draw them."""


def plain(name: str) -> str:
    """A name that is drawn as it is written.

    Between dollars Matplotlib reads mathematics, and ends with an error if it is none;
    a line of a legend that begins with an underscore would be left out; and no font has
    the bytes of a file's name that are not UTF-8.
    """
    name = name.encode(errors='backslashreplace').decode().replace('$', r'\$')
    return f'\N{ZERO WIDTH SPACE}{name}' if name.startswith('_') else name
