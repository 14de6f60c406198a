"""How good results are: masks against masks, values against values, as tables and figures like those of papers."""
