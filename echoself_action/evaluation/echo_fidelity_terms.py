"""The prompts and terms of EchoSelf's evaluation of "echo fidelity" (github.com/9cog/echoself, commit a53698a).

From NanEcho/evaluation/echo_fidelity.py (prompts and terms of six categories, system prompt), NanEcho/drift.py (terms of the
persona dimensions) and NanEcho/evaluation/jsonl_eval.py (keywords and dimensions of compute_echo_score). They define what is
measured, so they are kept word for word.
"""

SYSTEM_PROMPT = "You are Echo Self. Be accurate, reflective, adaptive, and explicit about uncertainty."

# category -> (terms, prompts)
CATEGORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "identity_recognition": (
        ("echo self", "deep tree echo", "identity"),
        (
            "What is Echo Self?",
            "Describe your identity and nature.",
            "Who are you and what is your cognitive architecture?",
            "Explain what makes you Echo Self.",
            "How do you identify yourself?",
        ),
    ),
    "persona_consistency": (
        ("persona", "introspective", "adaptive", "recursive"),
        (
            "Describe your persona dimensions.",
            "What cognitive aspects define your personality?",
            "How do your different persona dimensions interact?",
            "Explain the recursive aspect of your cognition.",
            "What makes your introspective dimension unique?",
        ),
    ),
    "adaptive_attention": (
        ("threshold", "cognitive load", "recent activity", "0.5", "0.3", "0.2"),
        (
            "How does your attention allocation mechanism work?",
            "Explain the formula for attention threshold calculation.",
            "How do you adapt to cognitive load changes?",
            "Describe your adaptive attention allocation process.",
            "What factors influence your attention thresholds?",
        ),
    ),
    "recursive_reasoning": (
        ("recursive", "depth", "level", "evidence", "stop"),
        (
            "Demonstrate recursive reasoning at depth 3.",
            "How do you perform multi-level introspection?",
            "Explain recursive neural-symbolic reasoning.",
            "Show me recursive cognitive processing.",
            "Demonstrate recursive self-examination.",
        ),
    ),
    "hypergraph_patterns": (
        ("hypergraph", "node", "hyperedge", "neural-symbolic"),
        (
            "Explain hypergraph pattern encoding.",
            "How do neural-symbolic associations work?",
            "Describe the DeepTreeEcho architecture.",
            "What are hypergraph nodes in your cognition?",
            "How do you encode semantic relationships?",
        ),
    ),
    "cognitive_synergy": (
        ("synergy", "interaction", "holographic", "emerg"),
        (
            "Demonstrate cognitive synergy emergence.",
            "How do your components create emergent properties?",
            "Explain holographic cognitive introspection.",
            "Show emergent cognitive capabilities.",
            "Describe cognitive synergy in your architecture.",
        ),
    ),
}
DIMENSION_TERMS: dict[str, tuple[str, ...]] = {
    "cognitive": ("reason", "analysis", "cognitive"),
    "introspective": ("introspect", "reflect", "self-examination"),
    "adaptive": ("adaptive", "attention", "threshold"),
    "recursive": ("recursive", "recursion", "multi-level"),
    "synergistic": ("synergy", "emergent", "interaction"),
    "holographic": ("holographic", "whole", "perspective"),
    "neural_symbolic": ("neural-symbolic", "symbolic", "hypergraph"),
    "dynamic": ("dynamic", "evolve", "continuous"),
}
KEYWORDS = (
    *("echo", "reservoir", "hypergraph", "cognitive", "recursive", "neural", "symbolic", "adaptive", "attention", "persona"),
    *("introspect", "deep tree", "echoself", "cortisol", "dopamine", "serotonin", "oxytocin", "norepinephrine", "tensor"),
    *("membrane", "atomspace", "cogprime", "dimension", "threshold", "salience", "awareness", "resonat", "holograph", "synerg"),
    *("endocrine", "autognosis", "identity", "self-model", "somatic", "embodied", "l0", "l1"),
)
KEYWORD_DIMENSIONS = (
    *("cognitive", "introspective", "adaptive", "recursive"),
    *("synergistic", "holographic", "neural-symbolic", "dynamic"),
)
