import Testing

@testable import Training

@Suite struct TrainingOptionTests {
  @Test func everyNameIsUnique() {
    let names = TrainingOption.all.flatMap { [$0.name] + $0.aliases }
    #expect(Set(names).count == names.count)
  }

  @Test func everyValueReadsBackAsItIsWritten() throws {
    var original = TrainingConfiguration(model: "model", data: "a.jsonl")
    original.data.append("b,c.jsonl")
    original.learningRate = 1.0 / 3
    original.memory = 24_000_000_001
    original.maxSteps = 7
    original.evalData = "none.jsonl"
    original.seed = .max
    original.shuffle = false
    original.scheduler = .cosine
    original.targetModules = ["q_proj", "v_proj"]
    var copy = TrainingConfiguration()
    for option in TrainingOption.all {
      switch option.value(in: original) {
      case nil: break
      case .flag(let on): try option.set([on ? "true" : "false"], in: &copy)
      case .plain(let text), .text(let text): try option.set([text], in: &copy)
      case .texts(let texts): try option.set(texts, in: &copy)
      }
    }
    #expect(copy == original)
  }

  @Test func namesAreFoundByAliasAndUnderscore() {
    #expect(TrainingOption.named("lr")?.name == "learning-rate")
    #expect(TrainingOption.named("max_seq_length")?.name == "max-seq-length")
    #expect(TrainingOption.named("lora_r")?.key == "lora_rank")
    #expect(TrainingOption.named("nothing") == nil)
  }

  @Test(arguments: [
    ("learning-rate", "fast", "learning-rate: \"fast\" is not a number"),
    ("batch-size", "1.5", "batch-size: \"1.5\" is not a whole number"),
    ("lr-scheduler", "step", "lr-scheduler: \"step\" is not one of linear, cosine, constant, wsd"),
    ("packing", "maybe", "packing: \"maybe\" is not true or false"),
    ("memory", "lots", "memory: \"lots\" is not a size such as 24GB or 512MiB"),
    ("seed", "", "seed: needs a whole number"),
  ])
  func wrongTypesAreNamed(name: String, text: String, message: String) throws {
    let option = try #require(TrainingOption.named(name))
    var configuration = TrainingConfiguration()
    #expect { try option.set([text], in: &configuration) } throws: { "\($0)" == message }
  }

  @Test func byteCounts() {
    #expect(parseByteCount("24GB") == 24_000_000_000)
    #expect(parseByteCount("1.5 GiB") == 1_610_612_736)
    #expect(parseByteCount("123") == 123)
    #expect(parseByteCount("GB") == nil)
    #expect(parseByteCount("1e400") == nil)
    #expect(parseByteCount("99999999999TB") == nil)
    #expect(parseByteCount("-1GB") == nil)
    for bytes in [0, 1, 1000, 1024, 1_500_000, 1 << 33, 24_000_000_001] {
      #expect(parseByteCount(formatByteCount(bytes)) == bytes)
    }
  }
}

@Suite struct TrainingConfigurationValidationTests {
  private func configuration(_ change: (inout TrainingConfiguration) -> Void) -> TrainingConfiguration {
    var configuration = TrainingConfiguration(model: "model.gguf", data: "chats.jsonl")
    change(&configuration)
    return configuration
  }

  @Test func defaultsAreValid() throws {
    let valid = configuration { _ in }
    #expect(try valid.validated() == valid)
  }

  @Test(arguments: [0, -1e-4, Double.nan, .infinity, 7])
  func learningRate(_ rate: Double) {
    let bad = configuration { $0.learningRate = rate }
    #expect { try bad.validated() } throws: { ($0 as? TrainingConfigurationError)?.option == "learning-rate" }
  }

  @Test func otherValues() {
    let cases: [(String, TrainingConfiguration)] = [
      ("model", configuration { $0.model = "" }),
      ("data", configuration { $0.data = [] }),
      ("lora-rank", configuration { $0.loraRank = 0 }),
      ("lora-alpha", configuration { $0.loraAlpha = .nan }),
      ("lora-dropout", configuration { $0.loraDropout = 1 }),
      ("target-modules", configuration { $0.targetModules = ["qkv_proj"] }),
      ("target-modules", configuration { $0.targetModules = [] }),
      ("target-modules", configuration { $0.targetModules = ["q_proj", "q_proj"] }),
      ("batch-size", configuration { $0.batchSize = -1 }),
      ("max-seq-length", configuration { $0.maxSequenceLength = 1 }),
      ("epochs", configuration { $0.epochs = .infinity }),
      ("max-steps", configuration { $0.maxSteps = 0 }),
      ("warmup-ratio", configuration { $0.warmupRatio = 1.5 }),
      ("weight-decay", configuration { $0.weightDecay = .nan }),
      ("max-grad-norm", configuration { $0.maxGradientNorm = -1 }),
      ("adam-beta2", configuration { $0.adamBeta2 = 1 }),
      ("eval-steps", configuration { $0.evalSteps = 10 }),
      ("memory", configuration { $0.memory = 0 }),
      ("threads", configuration { $0.threads = 0 }),
    ]
    for (option, bad) in cases {
      #expect { try bad.validated() } throws: { ($0 as? TrainingConfigurationError)?.option == option }
    }
  }
}
