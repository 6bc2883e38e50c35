extension TrainingOption {
  /// Every option, in the order in which help and YAML files show them.
  public static let all: [TrainingOption] =
    dataOptions + adapterOptions + optimizationOptions + runOptions + machineOptions

  /// The option of a name or alias; dashes and underscores alike.
  public static func named(_ name: String) -> TrainingOption? {
    let dashed = String(name.map { $0 == "_" ? "-" : $0 })
    return all.first { $0.name == dashed || $0.aliases.contains(dashed) }
  }

  private static let dataOptions: [TrainingOption] = [
    .text("model", .data, \.model, "MODEL", "A Hugging Face folder or a .gguf file.", isPositional: true),
    .texts(
      "data", .data, \.data, aliases: ["dataset", "train-data"], "FILE",
      "Training data: a .jsonl, .json, .csv, .tsv or .txt file (or one of them as .gz or .zst), a folder, a pattern, or - "
        + "for standard input; with @WEIGHT behind it as often an epoch. May be given several times."),
    .choice(
      "format", .data, \.dataFormat, aliases: ["data-format"], "What the records look like; auto: what their keys say."),
    .words(
      "field", .data, \.fields, aliases: ["fields"], "NAME=KEY",
      "The data's own name for what a format reads: --field instruction=question. May be given several times."),
    .text(
      "eval-data", .data, \.evalData, aliases: ["validation-data", "eval-dataset"], "FILE",
      "Held-out data, evaluated before the first and after the last step."),
    .scalar(
      "eval-share", .data, \.evalShare, .number, aliases: ["val-set-size", "test-size"], "X",
      "Share of the training data to hold out and evaluate, instead of --eval-data."),
    .text(
      "chat-template", .data, \.chatTemplate, aliases: ["chat-template-file"], "FILE",
      "Chat template (Jinja) to use instead of the model's own."),
    .choice("train-on", .data, \.trainOn, "Tokens that the loss counts."),
    .scalar(
      "max-seq-length", .data, \.maxSequenceLength, .integer,
      aliases: ["max-length", "max-seq-len", "sequence-len", "seq-len", "cutoff-len"], "N",
      "Tokens of a sequence."),
    .choice(
      "long-samples", .data, \.longSamples, aliases: ["overflow"],
      "What becomes of longer samples: cut at a turn, left out, or split into several."),
    .flag(
      "packing", .data, \.packing, aliases: ["sample-packing"],
      "Fill sequences with several samples, which do not see one another."),
    .scalar(
      "batch-tokens", .data, \.batchTokens, .integer, aliases: ["tokens-per-batch"], "N",
      "Tokens of a micro-batch, filled with as many samples as fit, instead of --batch-size."),
    .flag(
      "parse-special", .data, \.parseSpecial,
      "Take special tokens that samples spell for those tokens; otherwise they stay text."),
    .flag(
      "data-cache", .data, \.dataCache, "Keep the tokens of large data on the disk for the next run."),
    .flag("shuffle", .data, \.shuffle, "Draw a new order every epoch."),
    .flag(
      "strict", .data, \.strict,
      "Refuse samples that are longer than --max-seq-length or odd, and a model whose tokenizer or template has a "
        + "defect instead of repairing it in memory."),
  ]

  private static let adapterOptions: [TrainingOption] = [
    .text(
      "adapter", .adapter, \.adapter, aliases: ["init-adapter"], "DIR",
      "Adapter to go on from, a run or a folder in PEFT's layout, with its rank, scale and modules."),
    .flag(
      "full", .adapter, \.full, aliases: ["full-finetuning"],
      "Train all weights instead of an adapter, and save a model; for small models."),
    .scalar(
      "lora-rank", .adapter, \.loraRank, .integer, aliases: ["rank", "lora-r", "r"], "N",
      "Rank of every adapter pair."),
    .scalar(
      "lora-alpha", .adapter, \.loraAlpha, .number, aliases: ["alpha"], "X",
      "Scale: the adapter counts alpha / rank."),
    .scalar(
      "lora-dropout", .adapter, \.loraDropout, .number, aliases: ["dropout"], "P",
      "Probability that an adapter's input is dropped."),
    .flag(
      "use-rslora", .adapter, \.useRSLoRA, aliases: ["rslora"], "Rank-stabilized scale: alpha / sqrt(rank)."),
    .flag(
      "use-dora", .adapter, \.useDoRA, aliases: ["dora"],
      "Learn the length of each row of a matrix apart from its direction (DoRA)."),
    .words(
      "target-modules", .adapter, \.targetModules, aliases: ["lora-target-modules", "lora-modules"], "LIST",
      "Projections that learn an adapter."),
  ]

  private static let optimizationOptions: [TrainingOption] = [
    .choice(
      "method", .optimization, \.method, "Learn from answers (sft), or from chosen and rejected ones (dpo, orpo)."),
    .scalar("beta", .optimization, \.beta, .number, "X", "With dpo and orpo: how much a preference counts."),
    .scalar("learning-rate", .optimization, \.learningRate, .number, aliases: ["lr"], "RATE", "Peak learning rate."),
    .choice(
      "lr-scheduler", .optimization, \.scheduler, aliases: ["scheduler", "lr-scheduler-type"],
      "How the learning rate falls."),
    .scalar(
      "warmup-steps", .optimization, \.warmupSteps, .integer, aliases: ["warmup"], "N",
      "Steps over which the learning rate rises."),
    .scalar(
      "warmup-ratio", .optimization, \.warmupRatio, .number, "X",
      "Warm-up as a fraction of all steps, instead of --warmup-steps."),
    .scalar(
      "min-lr-ratio", .optimization, \.minLearningRateRatio, .number, aliases: ["min-learning-rate-ratio"], "X",
      "Learning rate at the end, as a fraction of the peak."),
    .scalar(
      "decay-ratio", .optimization, \.decayRatio, .number, "X",
      "With --lr-scheduler wsd: the last share of the run, over which the rate falls."),
    .scalar(
      "loraplus-ratio", .optimization, \.loraPlusRatio, .number, aliases: ["loraplus-lr-ratio"], "X",
      "Learning rate of every B as a multiple of every A's (LoRA+)."),
    .scalar(
      "batch-size", .optimization, \.batchSize, .integer,
      aliases: ["bs", "micro-batch-size", "per-device-train-batch-size"], "N", "Sequences of one micro-batch."),
    .scalar(
      "gradient-accumulation", .optimization, \.gradientAccumulation, .integer,
      aliases: ["gradient-accumulation-steps", "grad-accum", "ga"], "N", "Micro-batches of one step."),
    .scalar(
      "epochs", .optimization, \.epochs, .number, aliases: ["num-epochs", "num-train-epochs"], "X",
      "Passes over the data."),
    .scalar(
      "max-steps", .optimization, \.maxSteps, .integer, aliases: ["steps", "iters"], "N",
      "Steps, instead of --epochs."),
    .choice("optimizer", .optimization, \.optimizer, aliases: ["optim"], "The optimizer."),
    .scalar(
      "weight-decay", .optimization, \.weightDecay, .number, aliases: ["wd"], "X", "Decoupled weight decay."),
    .scalar(
      "max-grad-norm", .optimization, \.maxGradientNorm, .number,
      aliases: ["max-gradient-norm", "grad-clip", "gradient-clipping"], "X",
      "Norm to which the gradient is scaled down; 0: never."),
    .scalar("adam-beta1", .optimization, \.adamBeta1, .number, "X", "Decay of the gradient's mean."),
    .scalar("adam-beta2", .optimization, \.adamBeta2, .number, "X", "Decay of the squared gradient's mean."),
    .scalar(
      "adam-epsilon", .optimization, \.adamEpsilon, .number, "X", "Added to the denominator of Adam's update."),
    .scalar(
      "ema-decay", .optimization, \.emaDecay, .number, aliases: ["ema"], "X",
      "Evaluate and save a running average of what is learned, with this decay per step."),
    .scalar(
      "neftune-alpha", .optimization, \.neftuneAlpha, .number, aliases: ["neftune-noise-alpha"], "X",
      "Noise on token embeddings in training (NEFTune)."),
    .scalar(
      "max-skipped-steps", .optimization, \.maxSkippedSteps, .integer, "N",
      "Steps in a row to skip for a loss or gradient that is not finite before the run stops."),
    .scalar(
      "seed", .optimization, \.seed, .integer, aliases: ["random-state"], "N",
      "Seed of initialization, dropout and order."),
  ]

  private static let runOptions: [TrainingOption] = [
    .text(
      "output", .run, \.output, aliases: ["output-dir", "o"], "DIR",
      "Folder for the adapter, checkpoints, metrics and resolved configuration."),
    .flag("resume", .run, \.resume, "Go on from the latest checkpoint in --output."),
    .scalar(
      "eval-steps", .run, \.evalSteps, .integer, "N", "Steps between two evaluations of the held-out data."),
    .scalar(
      "early-stopping-patience", .run, \.earlyStoppingPatience, .integer, aliases: ["patience"], "N",
      "Evaluations without a lower loss after which the run ends."),
    .scalar(
      "early-stopping-threshold", .run, \.earlyStoppingThreshold, .number, "X",
      "How much lower a held-out loss must be to count."),
    .flag(
      "load-best-at-end", .run, \.loadBestAtEnd, aliases: ["load-best-model-at-end"],
      "Leave the best checkpoint's adapter in --output instead of the last step's."),
    .texts(
      "sample-prompt", .run, \.samplePrompts, aliases: ["sample-prompts"], "TEXT",
      "Prompt to answer before, during and after training; may be given several times."),
    .scalar(
      "sample-steps", .run, \.sampleSteps, .integer, "N",
      "Steps between two answers to --sample-prompt; at evaluations when not given."),
    .scalar("sample-tokens", .run, \.sampleTokens, .integer, "N", "Tokens of such an answer at most."),
    .duration(
      "max-time", .run, \.maxTime, aliases: ["time-limit"], "TIME",
      "Save and end the run after this time, such as 90m or 1h30m; --resume goes on."),
    .scalar(
      "save-steps", .run, \.saveSteps, .integer, aliases: ["save-every"], "N",
      "Steps between two checkpoints; 0: at the end only."),
    .scalar(
      "save-limit", .run, \.saveLimit, .integer, aliases: ["save-total-limit"], "N",
      "Checkpoints kept besides the best; all when not given."),
    .scalar(
      "log-steps", .run, \.logSteps, .integer, aliases: ["logging-steps"], "N",
      "Steps between two lines of metrics.jsonl."),
    .flag("tensorboard", .run, \.tensorBoard, "Write events for TensorBoard into --output."),
  ]

  private static let machineOptions: [TrainingOption] = [
    .choice("device", .machine, \.device, "Where to compute."),
    .choice("compute", .machine, \.compute, aliases: ["precision"], "Operand type of matrix products."),
    .flag(
      "deterministic", .machine, \.deterministic,
      "The same run gives the same bits on a GPU too, at some speed; on the CPU it always does."),
    .choice(
      "quantization", .machine, \.quantization,
      "How the frozen weights are kept: nf4 takes 4 bits each; dynamic keeps in 16 bits what that would hurt."),
    .choice(
      "head", .machine, \.head,
      "How the head is kept; auto: in 16 bits, in fewer on a GPU where nothing else fits."),
    .text(
      "calibration", .machine, \.calibration, "FILE", "Text that shows --quantization dynamic which layers matter."),
    .scalar(
      "budget", .machine, \.budget, .number, "PERCENT",
      "How many per cent more bytes than nf4 --quantization dynamic may take."),
    .scalar(
      "threads", .machine, \.threads, .integer, "N", "Threads; one per CPU when not given."),
    .byteCount(
      "memory", .machine, \.memory, "SIZE", "Memory to stay within, such as 24GB; what is free when not given."),
    .choice("recompute", .machine, \.recompute, "Activations computed twice to save memory."),
  ]
}
