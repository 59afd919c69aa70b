"""Judge a compiled model on the cases of one site, such as a hospital, and write down what was found.

    model_use.py       how the artifact is used: preprocessing, classes, decision, as its manifest says
    local_cases.py     the site's own cases, with labels or without
    criteria.py        the limits of the run, read back from its report
    labelled.py        with labels: the guard-rails of the run, against the original on the same cases
    agreement.py       without labels: how often the artifact and the original disagree, and the harm that this allows
    mask_agreement.py  without labels, for masks: Dice between the masks of both
    betting.py         upper bound of a mean that holds for any distribution and any number of cases
    judgement.py       outcome, reasons and figures of one of these
    record.py          the acceptance record: JSON, page, signature

Nothing here knows a bundle: `run/verification/site.py` checks it, opens both models and passes their `predict`.
"""
