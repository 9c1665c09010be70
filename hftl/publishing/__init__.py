"""From trained weights to artifacts that plain transformers loads, and to the Hub.

On disk: `save` (final/, adapter/), `card` and its template.
Proof: `parity`, which runs `fresh_process` by itself.
What is published: `bundle` with `examples`; `public_report` chooses what may leave, `clean` copies it and looks once
more; `licences`, `results` (model-index, .eval_results).
The Hub: `hub` is the flow and the proof; `hub_repository` the options, the repository and the commit; `space`. The
lines about what goes wrong are in `hftl.hub_errors`.
"""
