"""Language models that explain: one client for every call, serving with vLLM, prompts, embeddings."""
