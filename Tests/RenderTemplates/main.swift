// Renders templates from standard input to standard output, one JSON object a line: `template`, and what it is rendered
// with (`messages`, `tools`, `documents`, `variables`, `add_generation_prompt`, `continue_final_message`). Each line gives
// {"text": …} or {"error": …}; what takes longer than a second also `seconds`. With a tokenizer's folder as argument each
// line gives ids and mask too, or the error of making them.
import JSONValues
import Tokenization

/// Renders one request after the other, and keeps the template for the next.
struct Renderer {
  let folder: String?
  var lastTemplate: ChatTemplate?
  var lastTokenizer: Tokenizer?

  private func given(_ value: JSONValue?) -> JSONValue? { value.flatMap { $0.isNull ? nil : $0 } }

  mutating func render(_ request: JSONValue, _ result: inout JSONObject) throws {
    let source = request["template"]?.string ?? ""
    if lastTemplate?.source.utf8.elementsEqual(source.utf8) != true {
      (lastTemplate, lastTokenizer) = (nil, nil)
      lastTemplate = try ChatTemplate(source: source)
    }
    guard let template = lastTemplate else { return }
    let (messages, variables) = (request["messages"] ?? [], request["variables"]?.object ?? [:])
    if let folder {
      let tokenizer = try lastTokenizer ?? Tokenizer(folder: folder, chatTemplate: template)
      lastTokenizer = tokenizer
      let masked = try tokenizer.encodeConversation(
        messages, tools: given(request["tools"]), documents: given(request["documents"]), variables: variables)
      result["ids"] = .array(masked.ids.map { .integer(Int($0)) })
      result["mask"] = .array(masked.isResponse.map { .integer($0 ? 1 : 0) })
      result["ranges"] = .array(masked.ranges.map { [.integer($0.lowerBound), .integer($0.upperBound)] })
      result["losses"] = .array(masked.losses.map { [.integer($0.message), .string($0.key)] })
      result["text"] = .string(masked.text)
      return
    }
    result["text"] = .string(
      try template.render(
        messages, tools: given(request["tools"]), documents: given(request["documents"]),
        addGenerationPrompt: request["add_generation_prompt"]?.bool ?? false,
        continuesFinalMessage: request["continue_final_message"]?.bool ?? false, variables: variables))
  }
}

var renderer = Renderer(folder: CommandLine.arguments.dropFirst().first)
while let line = readLine() {
  var result = JSONObject()
  let start = ContinuousClock.now
  do {
    try renderer.render(JSONValue.parse(Array(line.utf8)), &result)
  } catch {
    result["error"] = .string("\(error)")
  }
  let seconds = (ContinuousClock.now - start) / .seconds(1)
  if seconds > 1 { result["seconds"] = .number(seconds) }
  print(JSONValue.object(result).serialized())
}
