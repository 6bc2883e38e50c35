/// Everything that decides a fine-tuning run; a default run needs only `model` and `data`.
///
/// Command-line flags and YAML keys both derive from ``TrainingOption/all``: one table holds each name once.
public struct TrainingConfiguration: Sendable, Equatable {
  /// Where matrix products run.
  public enum DeviceChoice: String, Sendable, CaseIterable {
    /// The best device present.
    case auto
    /// The processor.
    case cpu
    /// An NVIDIA GPU.
    case cuda
  }

  /// The operand type of matrix products; sums, the adapter and the optimizer stay in fp32.
  public enum Compute: String, Sendable, CaseIterable {
    /// bf16 where the device multiplies bf16 faster, else fp32.
    case auto
    /// bf16 operands, fp32 accumulation.
    case bf16
    /// fp32 throughout.
    case fp32
  }

  /// How the frozen weights of the projections are kept.
  public enum Quantization: String, Sendable, CaseIterable {
    /// As they are, in the operand type.
    case none
    /// In 4 bits: NF4 with double quantization, as bitsandbytes has it.
    case nf4
    /// In 4 bits, all but the layers that it would hurt, as calibration text shows.
    case dynamic
  }

  /// How the head is kept that turns what the last layer leaves into logits.
  public enum Head: String, Sendable, CaseIterable {
    /// In 16 bits, in fewer on a GPU where nothing else fits.
    case auto
    /// In the operand type.
    case bf16
    /// In 8 bits.
    case int8 = "8bit"
    /// In 4 bits.
    case nf4
  }

  /// How the learning rate falls after the warm-up.
  public enum Scheduler: String, Sendable, CaseIterable {
    /// A straight line to `minLearningRateRatio` × peak at the last step.
    case linear
    /// Half a cosine to `minLearningRateRatio` × peak at the last step.
    case cosine
    /// Stays at the peak.
    case constant
    /// Warm-up, the peak, then half a cosine over the last ``TrainingConfiguration/decayRatio`` of the run.
    case wsd
  }

  /// The rule that turns gradients into weight changes.
  public enum OptimizerChoice: String, Sendable, CaseIterable {
    /// AdamW with fp32 state and decoupled weight decay.
    case adamw
    /// AdamW whose state takes two bytes per parameter instead of eight.
    case adamw8bit
  }

  /// What a run learns from.
  public enum Method: String, Sendable, CaseIterable {
    /// Answers, token by token.
    case sft
    /// Pairs of a better and a worse answer, beside the model as it was (Rafailov et al., 2023).
    case dpo
    /// Pairs, together with the likelihood of the better answers (Hong et al., 2024).
    case orpo

    /// Whether it learns from pairs.
    public var learnsFromPairs: Bool { self != .sft }
  }

  /// Which tokens the loss counts.
  public enum TrainOn: String, Sendable, CaseIterable {
    /// What the assistant says, its end-of-turn token included.
    case responses
    /// Every token.
    case all
  }

  /// What the records of data files look like.
  public enum DataFormat: String, Sendable, CaseIterable {
    /// What the keys of the first record say.
    case auto
    /// `messages` (or `conversations`) with `role` and `content`.
    case messages
    /// `conversations` with `from` and `value`.
    case sharegpt
    /// `instruction`, `input`, `output`.
    case alpaca
    /// `question` and `answer`.
    case questionAnswer = "question-answer"
    /// `prompt` and `completion`.
    case promptCompletion = "prompt-completion"
    /// `chosen` and `rejected`.
    case preference
    /// `text`, or files of plain text.
    case text
  }

  /// What becomes of a sample longer than ``TrainingConfiguration/maxSequenceLength``.
  public enum LongSamples: String, Sendable, CaseIterable {
    /// It ends with the last turn of the assistant that fits; within the first turn where none does.
    case cut
    /// It is left out.
    case drop
    /// It becomes several examples.
    case split
  }

  /// Which activations are computed again in the backward pass instead of being kept.
  public enum Recompute: String, Sendable, CaseIterable {
    /// As few as the memory budget asks for.
    case auto
    /// None: fastest, most memory.
    case none
    /// All but each layer's input: least memory.
    case all
  }

  /// The seven projections of a Llama layer, the default of ``targetModules``.
  public static let allProjections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

  /// A Hugging Face folder or a `.gguf` file.
  public var model = ""
  /// Datasets, read in order: files, folders, patterns or `-`, each perhaps with `@` and a weight.
  public var data: [String] = []
  /// What the records of the files look like.
  public var dataFormat = DataFormat.auto
  /// The files' own names for what formats read, as `instruction=question`.
  public var fields: [String] = []
  /// Held-out dataset, evaluated before the first step, every `evalSteps`, and after the last.
  public var evalData: String?
  /// Share of the training data that is held out and evaluated instead of `evalData`.
  public var evalShare: Double?
  /// A chat template (Jinja) to use instead of the model's own: the path of its file, read when the model is loaded.
  public var chatTemplate: String?
  /// Folder of the run: adapter, checkpoints, metrics, resolved configuration.
  public var output = "swiftlet-output"
  /// Goes on from the latest checkpoint in `output`.
  public var resume = false

  /// Where the run computes.
  public var device = DeviceChoice.auto
  /// Operand type of matrix products.
  public var compute = Compute.auto
  /// The same run gives the same bits on a GPU too.
  public var deterministic = false
  /// How frozen weights are kept.
  public var quantization = Quantization.none
  /// How the head is kept.
  public var head = Head.auto
  /// Text that shows ``Quantization/dynamic`` which layers matter.
  public var calibration: String?
  /// How many per cent more bytes than ``Quantization/nf4`` takes ``Quantization/dynamic`` may take.
  public var budget = 10.0
  /// Threads; nil means one per CPU of the affinity mask.
  public var threads: Int?
  /// Memory the run may use, in bytes; nil means what the machine has free.
  public var memory: Int?
  /// Activations computed twice to save memory.
  public var recompute = Recompute.auto

  /// The adapter to go on from, a run or a folder in PEFT's layout: its rank, scale and modules are then the run's.
  public var adapter: String?
  /// Whether all weights learn, instead of an adapter beside them.
  public var full = false
  /// Rank of every adapter pair.
  public var loraRank = 16
  /// The adapter's product is scaled by alpha / rank, with rsLoRA by alpha / √rank.
  public var loraAlpha = 16.0
  /// Probability that an adapter's input is dropped.
  public var loraDropout = 0.0
  /// Rank-stabilized scaling, alpha / √rank.
  public var useRSLoRA = false
  /// Whether each row of an adapted matrix learns its length apart from its direction (DoRA).
  public var useDoRA = false
  /// Projections that learn an adapter.
  public var targetModules = TrainingConfiguration.allProjections

  /// What the run learns from.
  public var method = Method.sft
  /// With pairs: how much a preference counts.
  public var beta = 0.1
  /// Peak learning rate.
  public var learningRate = 2e-4
  /// How the learning rate falls.
  public var scheduler = Scheduler.linear
  /// Steps over which the learning rate rises from 0.
  public var warmupSteps = 5
  /// Warm-up as a fraction of all steps; when set, `warmupSteps` is not used.
  public var warmupRatio: Double?
  /// The learning rate at the end, as a fraction of the peak.
  public var minLearningRateRatio = 0.0
  /// With ``Scheduler/wsd``: the last share of all steps, over which the learning rate falls.
  public var decayRatio = 0.1
  /// The learning rate of every B as a multiple of that of the other parameters (LoRA+).
  public var loraPlusRatio = 1.0
  /// Sequences of one micro-batch.
  public var batchSize = 2
  /// Micro-batches of one step.
  public var gradientAccumulation = 4
  /// Tokens of a sequence.
  public var maxSequenceLength = 2048
  /// What becomes of longer samples.
  public var longSamples = LongSamples.cut
  /// Tokens of one micro-batch, which then holds as many samples as fit; nil: `batchSize` of them.
  public var batchTokens: Int?
  /// Passes over the data.
  public var epochs = 1.0
  /// Steps; when set, `epochs` is not used.
  public var maxSteps: Int?
  /// The rule that turns gradients into weight changes.
  public var optimizer = OptimizerChoice.adamw
  /// Decoupled weight decay.
  public var weightDecay = 0.01
  /// The gradient is scaled down to this norm; 0 switches clipping off.
  public var maxGradientNorm = 1.0
  /// Decay of the gradient's running mean.
  public var adamBeta1 = 0.9
  /// Decay of the squared gradient's running mean.
  public var adamBeta2 = 0.999
  /// Added to the denominator of Adam's update.
  public var adamEpsilon = 1e-8
  /// Decay of a running average of what is learned, which is evaluated and saved instead of the last step's; nil: none.
  public var emaDecay: Double?
  /// Size of the noise on token embeddings in training (NEFTune); nil: none.
  public var neftuneAlpha: Double?
  /// Steps in a row that may be skipped because their loss or gradient is not finite; one more stops the run.
  public var maxSkippedSteps = 5
  /// Seed of initialization, dropout and order.
  public var seed: UInt64 = 3407

  /// Which tokens the loss counts.
  public var trainOn = TrainOn.responses
  /// Fills sequences with several samples, which do not see one another.
  public var packing = false
  /// Takes special tokens that samples spell for those tokens, not for text.
  public var parseSpecial = false
  /// Keeps the tokens of large data on the disk for the next run.
  public var dataCache = true
  /// Draws a new order every epoch.
  public var shuffle = true
  /// Refuses a sample longer than `maxSequenceLength` instead of cutting it.
  public var strict = false

  /// Steps between two evaluations; nil means before the first and after the last only.
  public var evalSteps: Int?
  /// Evaluations without a lower loss after which the run ends; nil: never.
  public var earlyStoppingPatience: Int?
  /// How much lower a held-out loss must be to count.
  public var earlyStoppingThreshold = 0.0
  /// Whether the run's folder gets the adapter of the best checkpoint at the end, instead of the last.
  public var loadBestAtEnd = false
  /// Prompts answered before the first step, at every evaluation or every `sampleSteps`, and after the last step.
  public var samplePrompts: [String] = []
  /// Steps between two answers to `samplePrompts`; nil: at every evaluation.
  public var sampleSteps: Int?
  /// Tokens of such an answer at most.
  public var sampleTokens = 64
  /// Seconds after which the run is saved and ends; nil: never.
  public var maxTime: Double?
  /// Steps between two checkpoints; 0 means at the end only.
  public var saveSteps = 100
  /// Checkpoints kept besides the best; nil keeps all.
  public var saveLimit: Int?
  /// Steps between two lines of `metrics.jsonl`.
  public var logSteps = 1
  /// Writes events for TensorBoard beside the metrics.
  public var tensorBoard = true

  /// A configuration with every default.
  public init() {}

  /// A configuration with every default, for one model and one dataset.
  public init(model: String, data: String) {
    self.model = model
    self.data = [data]
  }
}
