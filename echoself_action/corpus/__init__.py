"""Text -> tokens.

find_files        globs -> files
read_documents    files -> documents: text in passages, one document a chat or row
split             document -> train or validation
tokenizer         text -> ids, and the tokenizer files of a model folder
write_dataset     files -> Parquet, the documents in their splits; restore makes files of it again
prepare_tokens    files -> train.bin and val.bin, memory-mapped, made once for each corpus and tokenizer
"""
