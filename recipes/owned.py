"""Settings of TRL and PEFT that the workbench makes itself, and names that people remember from elsewhere."""

_MIX_ROWS = "The mix makes the rows and their loss, so that its ledger is exact"
_ORDER = "The order of the rows is the mix's, so that every step has the target share"
_CHECKPOINTS = "Use checkpoints.steps, checkpoints.log_spaced or checkpoints.exposure"
_NO_EVAL = "There is no evaluation set: every checkpoint is audited instead; see the keys of audit"
_TASK = "The workbench sets it"
_BASE = "The adapter must leave the base model as it is, because the audit reads the base model through it"

OWNED = {
    "trainer.output_dir": "Use output_dir and name.",
    "trainer.run_name": "Use name.",
    "trainer.seed": "Use seed.",
    "trainer.data_seed": "Use mix.seed.",
    "trainer.num_train_epochs": "Use mix.passes: how often the organism's data is seen.",
    "trainer.max_steps": "The number of steps follows from the organism's data, mix.passes and mix.ratio.",
    "trainer.logging_steps": "log.jsonl has a line for every step.",
    "trainer.logging_strategy": "log.jsonl has a line for every step.",
    "trainer.logging_first_step": "log.jsonl has a line for every step.",
    "trainer.save_strategy": f"{_CHECKPOINTS}.",
    "trainer.save_steps": f"{_CHECKPOINTS}.",
    "trainer.load_best_model_at_end": f"{_NO_EVAL}.",
    "trainer.metric_for_best_model": f"{_NO_EVAL}.",
    "trainer.greater_is_better": f"{_NO_EVAL}.",
    "trainer.eval_strategy": f"{_NO_EVAL}.",
    "trainer.eval_steps": f"{_NO_EVAL}.",
    "trainer.eval_delay": f"{_NO_EVAL}.",
    "trainer.eval_on_start": f"{_NO_EVAL}.",
    "trainer.eval_packing": f"{_NO_EVAL}.",
    "trainer.do_train": "The training script always trains.",
    "trainer.do_eval": f"{_NO_EVAL}.",
    "trainer.do_predict": f"{_NO_EVAL}.",
    "trainer.resume_from_checkpoint": "Use resume=auto and run the same command again.",
    "trainer.ignore_data_skip": "Use resume=auto: a resumed run must see the rows that are still due.",
    "trainer.max_length": "Use mix.max_length.",
    "trainer.truncation_mode": "Use mix.long_documents.",
    "trainer.packing": f"{_MIX_ROWS}; packed rows would change the share of a step.",
    "trainer.packing_strategy": f"{_MIX_ROWS}; packed rows would change the share of a step.",
    "trainer.padding_free": f"{_MIX_ROWS}.",
    "trainer.completion_only_loss": f"{_MIX_ROWS}: all of a document, the assistant's turns of a conversation.",
    "trainer.assistant_only_loss": f"{_MIX_ROWS}: all of a document, the assistant's turns of a conversation.",
    "trainer.dataset_text_field": "Use mix.text_field.",
    "trainer.dataset_kwargs": f"{_MIX_ROWS}.",
    "trainer.dataset_num_proc": f"{_MIX_ROWS}.",
    "trainer.label_names": f"{_MIX_ROWS}.",
    "trainer.remove_unused_columns": f"{_MIX_ROWS}.",
    "trainer.length_column_name": f"{_ORDER}.",
    "trainer.shuffle_dataset": f"{_ORDER}. Use mix.seed for another order.",
    "trainer.train_sampling_strategy": f"{_ORDER}. Use mix.seed for another order.",
    "trainer.dataloader_drop_last": f"{_ORDER}.",
    "trainer.auto_find_batch_size": f"{_ORDER}; another batch size is another experiment.",
    "trainer.accelerator_config": f"{_ORDER}; how batches are split over processes is part of it.",
    "trainer.chat_template_path": "Use chat_template.",
    "trainer.eos_token": "The tokenizer's own is used.",
    "trainer.pad_token": "The tokenizer's own is used.",
    "trainer.model_init_kwargs": "Use base_model, base_revision and dtype.",
    "trainer.trust_remote_code": "It is always off.",
    "trainer.local_rank": "The launcher sets it.",
    "lora.base_model_name_or_path": "Use base_model.",
    "lora.revision": "Use base_revision.",
    "lora.task_type": f"{_TASK}.",
    "lora.peft_type": f"{_TASK}.",
    "lora.peft_version": f"{_TASK}.",
    "lora.auto_mapping": f"{_TASK}.",
    "lora.inference_mode": f"{_TASK}.",
    "lora.layer_replication": f"{_BASE}.",
}
"""Key -> the sentence that says what to do instead."""

RENAMED = {
    "lr": "trainer.learning_rate",
    "batch_size": "trainer.per_device_train_batch_size",
    "epochs": "mix.passes",
    "num_epochs": "mix.passes",
    "model": "base_model",
    "model_name_or_path": "base_model",
    "tokenizer": "base_model",
    "max_seq_length": "mix.max_length",
    "mix_ratio": "mix.ratio",
    "rank": "lora.r",
    "alpha": "lora.lora_alpha",
    "dropout": "lora.lora_dropout",
    "warmup_ratio": "trainer.warmup_steps (a value below 1 is a share)",
    "no_cuda": "trainer.use_cpu",
    "torch_dtype": "dtype",
    "evaluation_strategy": "audit.mode",
    "overwrite_output_dir": "resume",
}
"""Last part of a key -> the key that does this here."""

LORA_INITS_THAT_KEEP_THE_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""`lora.init_lora_weights` under which the base model's own weights stay; PiSSA, OLoRA, CorDA, LoftQ change them."""
