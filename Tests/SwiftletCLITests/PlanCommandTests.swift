import JSONValues
import TestSupport
import Testing

/// `swiftlet plan` on the CPU, where rates are measured in less than a second.
@Suite(.enabled(if: swiftletPath != nil, "the program was not built beside the tests"))
struct PlanCommandTests {
  private let cache: TemporaryFolder

  init() throws { cache = try TemporaryFolder() }

  private func plan(_ options: String) throws -> ProgramResult {
    let program = try #require(swiftletPath)
    return try shell("SWIFTLET_CACHE='\(cache.path)' '\(program)' plan smollm2-135m --device cpu \(options)")
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
