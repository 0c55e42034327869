from . import FILES, renewed

for file in FILES:
    file.write_text(renewed(file))
