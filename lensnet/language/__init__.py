"""Text to validated data: YAML with positions, safe formulas, network and component specs, problems at file:line:col.

Start with loading.py. Data flows source -> yaml_tree -> document -> problems (pydantic models) -> checks; formulas are
read by formula_tree, judged by formula_bounds, and built by formula_expression when someone needs the expression.
No torch, numpy or networkx here.
"""
