"""Text -> tokens.

find_files        globs -> files
read_documents    files -> documents: passages of a text, chats, rows
split             document -> training or validation split
tokenizer         text -> ids, and the tokenizer files of a model folder
write_dataset     files -> Parquet files of documents in their splits; restore converts them back to files
prepare_tokens    files -> memory-mapped train.bin and val.bin, cached for each corpus and tokenizer
"""
