import JSONValues
import TestSupport
import Testing

/// `swiftlet plan` on the CPU, where rates are measured in some seconds, once.
@Suite(.enabled(if: swiftletPath != nil, "the program was not built beside the tests"))
struct PlanCommandTests {
  private let cache: TemporaryFolder

  init() throws { cache = try TemporaryFolder() }

  private func plan(_ options: String, model: String = "smollm2-135m") throws -> ProgramResult {
    let program = try #require(swiftletPath)
    return try shell("SWIFTLET_CACHE='\(cache.path)' '\(program)' plan '\(model)' --device cpu \(options)")
  }

  @Test func aConfigurationAloneIsAShape() throws {
    let path = try cache.write(
      "config.json",
      """
      {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152, "hidden_size": 576,
       "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3,
       "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 100000, "tie_word_embeddings": true}
      """)
    let named = try JSONValue.parse(try plan("--memory 1GB --json").output)
    let read = try JSONValue.parse(try plan("--memory 1GB --json", model: path).output)
    #expect(read["fits"] == true && read["bytes"] == named["bytes"] && read["choices"] == named["choices"])
    let missing = try plan("--json", model: "\(cache.path)/other.json")
    #expect(missing.status == 2 && missing.errors.contains("other.json"), "\(missing.errors)")
  }

  @Test func lessMemoryIsMoreWork() throws {
    var last: (bytes: Int, seconds: Double)?
    for memory in ["8GB", "1200MB", "1GB"] {
      let result = try plan("--batch-size 4 --context 512 --memory \(memory) --json")
      #expect(result.status == 0, "\(result.errors)")
      let json = try JSONValue.parse(result.output)
      let bytes = try #require(json["predicted_bytes"]?.integer)
      let seconds = try #require(json["predicted_step_seconds"]?.double)
      #expect(json["fits"] == true && bytes <= json["budget_bytes"]?.integer ?? 0)
      #expect(json["choices"]?.array?.isEmpty == false)
      if let last { #expect(bytes < last.bytes && seconds >= last.seconds) }
      last = (bytes, seconds)
    }
    let text = try plan("--batch-size 4 --context 512 --memory 1GB").output
    for part in ["layers", "activations", "together", "tokens/s"] { #expect(text.contains(part)) }
  }

  /// A row of `bench` names the choices of the step that it timed, as the plan does.
  @Test func benchNamesItsChoices() throws {
    let program = try #require(swiftletPath)
    let options = "--workload train:1x64 --memory 1GB --repetitions 1 --warm-up 0 --json"
    let result = try shell(
      "SWIFTLET_CACHE='\(cache.path)' '\(program)' bench --model smollm2-135m --device cpu \(options)")
    #expect(result.status == 0, "\(result.errors)")
    func names(_ output: String) throws -> Set<String> {
      Set(try JSONValue.parse(output)["choices"]?.array?.compactMap { $0["choice"]?.string } ?? [])
    }
    let planned = try names(try plan("--batch-size 1 --context 64 --memory 1GB --json").output)
    #expect(try names(result.output) == planned.subtracting(["weights"]) && planned.count > 6)
  }

  /// Where no layer can keep its input, groups of layers keep one.
  @Test func longContextsGroupLayers() throws {
    let result = try plan("--context 16384 --memory 1200MB --json")
    #expect(result.status == 0, "\(result.errors)")
    let json = try JSONValue.parse(result.output)
    let groups = try #require(json["choices"]?.array?.first { $0["choice"] == "groups" })
    #expect((groups["size"]?.integer ?? 0) > 1 && groups["place"] == "device")
    #expect(json["predicted_bytes"]?.integer ?? .max <= 1_200_000_000)
    let text = try plan("--context 16384 --memory 1200MB").output
    for part in ["in groups of ", "keeps its input", "go forward once more"] { #expect(text.contains(part), "\(text)") }
    let wrong = try plan("--host-memory much")
    #expect(wrong.status == 2 && wrong.errors.contains("--host-memory"))
  }

  @Test func whatCannotFitSaysWhatWould() throws {
    let little = try plan("--batch-size 64 --context 8192 --memory 900MB")
    #expect(little.status == 1 && little.errors.contains("one sample of "), "\(little.errors)")
    let none = try plan("--memory 50MB")
    #expect(none.status == 1 && none.errors.contains("the model itself is too large"), "\(none.errors)")
    let json = try JSONValue.parse(try plan("--memory 50MB --json").output)
    #expect(json["fits"] == false)
    let wrong = try plan("--memory much")
    #expect(wrong.status == 2 && wrong.errors.contains("--memory"))
  }
}
