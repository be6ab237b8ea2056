"""Experiments, trials and runs side by side: ``drillyard compare``.

comparison/index.html                the page; it fetches nothing from any network
comparison/curves.{svg,png,csv}      learning curves together
comparison/evaluation.{svg,png,csv}  final evaluations
comparison/comparison.json           everything that the page shows
"""
