import CommandLineParsing
import JSONValues
import Swiftlet
import Tokenization

/// `swiftlet template`: a conversation as the model's own chat template writes it.
enum TemplateCommand: RunnableCommand {
  private static let messages = Option<String?>(
    "messages", "FILE.json", "The conversation: a list of messages, or an object with messages and tools.")
  private static let tools = Option<String?>("tools", "FILE.json", "Tools that the model may call.")
  private static let documents = Option<String?>("documents", "FILE.json", "Documents for the model to look into.")
  private static let variables = Option<String?>(
    "variables", "JSON", "More variables for the template, as an object: '{\"enable_thinking\": false}'.")
  private static let generationPrompt = Option(
    flag: "generation-prompt", aliases: ["add-generation-prompt"], "End with the beginning of an answer.")
  private static let continueFinalMessage = Option(
    flag: "continue-final-message", "End with the last message's words, to be continued.")
  private static let showMask = Option(
    flag: "show-mask", "Show which part is the assistant's, and so trained on.")

  static let command = Command(
    name: "template", summary: "Print a conversation as the model's chat template writes it.",
    examples: [
      "model.gguf --messages chat.json --generation-prompt", "model --messages chat.json --show-mask",
      "model --messages chat.json --chat-template mine.jinja --json",
    ],
    arguments: [ModelOptions.model.declaration],
    options: [
      messages.declaration, tools.declaration, documents.declaration, variables.declaration,
      generationPrompt.declaration, continueFinalMessage.declaration, showMask.declaration,
      ModelOptions.template.declaration, ModelOptions.chatTemplate.declaration, ModelOptions.parseSpecial.declaration,
      JSONOption.json.declaration,
    ])

  static func run(_ arguments: ParsedArguments) throws {
    guard let path = arguments[messages] else { throw InputFailure("--messages is missing; name a JSON file") }
    let request = Request(
      conversation: try Conversation(path: path), tools: try arguments[tools].map { try TextFiles.json($0) },
      documents: try arguments[documents].map { try TextFiles.json($0) }, template: arguments[ModelOptions.template],
      variables: try arguments[variables].map { try object($0) } ?? [:])
    let tokenizer = try ModelOptions.loadTokenizer(arguments)
    if arguments[showMask] {
      guard !arguments[generationPrompt], !arguments[continueFinalMessage] else {
        throw InputFailure("--show-mask shows a whole conversation; leave out the option that ends it otherwise")
      }
      return try show(request, tokenizer, arguments)
    }
    guard !arguments[generationPrompt] || !arguments[continueFinalMessage] else {
      throw InputFailure("--generation-prompt and --continue-final-message exclude each other; give one")
    }
    if arguments[JSONOption.json] {
      let encoded = try readingInput {
        try tokenizer.encodeRendering(
          request.conversation.messages, tools: request.tools, documents: request.documents,
          addGenerationPrompt: arguments[generationPrompt], continuesFinalMessage: arguments[continueFinalMessage],
          templateName: request.template, variables: request.variables,
          parseSpecialTokens: arguments[ModelOptions.parseSpecial])
      }
      let result: JSONObject = [
        "text": .string(encoded.text), "ids": .array(encoded.ids.map { .integer(Int($0)) }),
      ]
      return try StandardOutput.write(JSONValue.object(result).serialized() + "\n")
    }
    let rendered = try readingInput {
      try tokenizer.renderConversation(
        request.conversation.messages, tools: request.tools, documents: request.documents,
        addGenerationPrompt: arguments[generationPrompt], continuesFinalMessage: arguments[continueFinalMessage],
        templateName: request.template, variables: request.variables)
    }
    // Exactly the text: a newline of ours could not be told from the template's.
    try StandardOutput.write(rendered)
  }

  /// What the command line asks to render.
  private struct Request {
    var conversation: Conversation
    var tools: JSONValue?
    var documents: JSONValue?
    var template: String?
    var variables: JSONObject

    init(
      conversation: Conversation, tools: JSONValue?, documents: JSONValue?, template: String?, variables: JSONObject
    ) {
      self.conversation = conversation
      self.tools = tools ?? conversation.tools
      self.documents = documents
      self.template = template
      self.variables = variables
    }
  }

  private static func object(_ text: String) throws -> JSONObject {
    guard let object = (try? JSONValue.parse(Array(text.utf8)))?.object else {
      throw InputFailure("--variables must be a JSON object such as '{\"enable_thinking\": false}'")
    }
    return object
  }

  // MARK: The mask

  private static func show(_ request: Request, _ tokenizer: Tokenizer, _ arguments: ParsedArguments) throws {
    let masked = try readingInput {
      try tokenizer.encodeConversation(
        request.conversation.messages, tools: request.tools, documents: request.documents,
        templateName: request.template, variables: request.variables,
        parseSpecialTokens: arguments[ModelOptions.parseSpecial])
    }
    for loss in masked.losses {
      StandardError.write("swiftlet: warning: messages[\(loss.message)]: the template does not write its \(loss.key)\n")
    }
    if arguments[JSONOption.json] {
      let result: JSONObject = [
        "text": .string(masked.text), "ids": .array(masked.ids.map { .integer(Int($0)) }),
        "mask": .array(masked.isResponse.map { .integer($0 ? 1 : 0) }),
        "losses": .array(
          masked.losses.map { .object(["message": .integer($0.message), "key": .string($0.key)]) }),
      ]
      return try StandardOutput.write(JSONValue.object(result).serialized() + "\n")
    }
    let isColoured = SampleText.isColoured(isTerminal: StandardOutput.isTerminal)
    try StandardOutput.write(MaskedText.text(masked, isColoured: isColoured))
  }
}
