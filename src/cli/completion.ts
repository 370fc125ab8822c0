/** `outrider completion`: scripts for shells, made of the commands themselves. */
import { Argument, Command, type Option } from "commander";
import { print, type Terminal } from "./terminal.ts";

const shells = ["bash", "zsh", "fish"] as const;

/** The command; `program` is the tree that the scripts know. */
export function completionCommand(terminal: Terminal, program: Command): Command {
  return new Command("completion")
    .summary("print a completion script for a shell")
    .description(
      'Prints a completion script. For bash: eval "$(outrider completion bash)". For zsh: ' +
        'eval "$(outrider completion zsh)". For fish: outrider completion fish | source.',
    )
    .addArgument(new Argument("<shell>", "the shell").choices(shells))
    .action((shell: (typeof shells)[number]) => print(terminal, completionScript(shell, program)));
}

/** A word that can stand at some place, and what it means. */
interface Word {
  readonly word: string;
  readonly meaning: string;
}

/** What can follow a command. */
interface Node {
  /** Such as "state get"; "" for the program itself. */
  readonly path: string;
  readonly commands: readonly Word[];
  readonly options: readonly Word[];
  /** Options after which a file name comes. */
  readonly fileOptions: readonly string[];
  /** Options after which something else comes, which nobody can guess. */
  readonly valueOptions: readonly string[];
  /** Fixed choices of the first argument. */
  readonly choices: readonly string[];
}

/** The script for a shell. */
function completionScript(shell: (typeof shells)[number], program: Command): string {
  const name = program.name();
  const nodes = nodesOf(program, "");
  if (shell === "fish") return fish(name, nodes);
  return shell === "bash" ? bash(name, nodes) : zsh(name, nodes);
}

function nodesOf(command: Command, path: string): Node[] {
  const help = command.createHelp();
  const commands = help.visibleCommands(command).filter((each) => each.name() !== "help");
  const options = help.visibleOptions(command);
  const flags = (match: (option: Option) => boolean) => options.filter(match).flatMap(namesOf);
  const takesFile = (option: Option) => /<(path|file)/.test(option.flags);
  const own: Node = {
    path,
    commands: commands.map((each) => ({ word: each.name(), meaning: each.summary() || each.description() })),
    options: options.flatMap((option) =>
      namesOf(option).map((word) => ({ word, meaning: option.description })),
    ),
    fileOptions: flags(takesFile),
    valueOptions: flags((option) => option.required && !takesFile(option)),
    choices: command.registeredArguments[0]?.argChoices ?? [],
  };
  return [own, ...commands.flatMap((each) => nodesOf(each, `${path} ${each.name()}`.trim()))];
}

function namesOf({ short, long }: Option): string[] {
  return [short, long].filter((name) => name !== undefined);
}

/** The path of the command, from the words before the cursor, and the candidates after it; both shells take it. */
function caseOf(nodes: readonly Node[], line: (node: Node) => string): string {
  return nodes.map((node) => `    ${quote(node.path)}) ${line(node)} ;;`).join("\n");
}

function bash(name: string, nodes: readonly Node[]): string {
  const paths = nodes.filter(({ path }) => path !== "").map(({ path }) => quote(path));
  const files = alternatives(nodes.flatMap(({ fileOptions }) => fileOptions));
  const values = alternatives(nodes.flatMap(({ valueOptions }) => valueOptions));
  return [
    `_${name}() {`,
    "  local current previous path word words",
    `  current=\${COMP_WORDS[COMP_CWORD]}`,
    `  previous=\${COMP_WORDS[COMP_CWORD-1]}`,
    '  path=""',
    `  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do`,
    '    [[ $word == -- ]] && { COMPREPLY=($(compgen -c -f -- "$current")); return; }',
    `    case "\${path:+$path }$word" in`,
    `      ${paths.join("|")}) path="\${path:+$path }$word" ;;`,
    "    esac",
    "  done",
    '  case "$previous" in',
    `    ${files}) COMPREPLY=($(compgen -f -- "$current")); return ;;`,
    `    ${values}) return ;;`,
    "  esac",
    '  case "$path" in',
    caseOf(nodes, (node) => `words=${quote(wordsOf(node).join(" "))}`),
    "  esac",
    '  COMPREPLY=($(compgen -W "$words" -- "$current"))',
    "}",
    `complete -o bashdefault -F _${name} ${name}`,
    "",
  ].join("\n");
}

function zsh(name: string, nodes: readonly Node[]): string {
  const paths = nodes.filter(({ path }) => path !== "").map(({ path }) => quote(path));
  const files = alternatives(nodes.flatMap(({ fileOptions }) => fileOptions));
  const values = alternatives(nodes.flatMap(({ valueOptions }) => valueOptions));
  const described = (node: Node) =>
    [...node.commands, ...node.choices.map((word) => ({ word, meaning: "" })), ...node.options]
      .map(({ word, meaning }) => quote(`${word.replace(/:/g, "\\:")}${meaning ? `:${meaning}` : ""}`))
      .join(" ");
  return [
    `#compdef ${name}`,
    `_${name}() {`,
    "  local path_='' word previous=$words[CURRENT-1]",
    "  local -a candidates",
    "  for word in $words[2,CURRENT-1]; do",
    "    [[ $word == -- ]] && { _normal; return }",
    `    case "\${path_:+$path_ }$word" in`,
    `      ${paths.join("|")}) path_="\${path_:+$path_ }$word" ;;`,
    "    esac",
    "  done",
    "  case $previous in",
    `    ${files}) _files; return ;;`,
    `    ${values}) return ;;`,
    "  esac",
    "  case $path_ in",
    caseOf(nodes, (node) => `candidates=(${described(node)})`),
    "  esac",
    "  _describe command candidates || _files",
    "}",
    `compdef _${name} ${name}`,
    "",
  ].join("\n");
}

function fish(name: string, nodes: readonly Node[]): string {
  const lines = [`complete -c ${name} -f`];
  for (const node of nodes) {
    const seen =
      node.path === "" ? [] : node.path.split(" ").map((word) => `__fish_seen_subcommand_from ${word}`);
    const inside = node.commands.map(({ word }) => word).join(" ");
    const here =
      [...seen, ...(inside ? [`not __fish_seen_subcommand_from ${inside}`] : [])].join("; and ") || "true";
    for (const { word, meaning } of [
      ...node.commands,
      ...node.choices.map((word) => ({ word, meaning: "" })),
    ]) {
      lines.push(`complete -c ${name} -n ${quote(here)} -a ${word}${meaning ? ` -d ${quote(meaning)}` : ""}`);
    }
    for (const { word, meaning } of node.options) {
      const flag = word.startsWith("--") ? `-l ${word.slice(2)}` : `-s ${word.slice(1)}`;
      const value = node.fileOptions.includes(word)
        ? " -r -F"
        : node.valueOptions.includes(word)
          ? " -x"
          : "";
      lines.push(`complete -c ${name} -n ${quote(here)} ${flag}${value} -d ${quote(meaning)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function wordsOf({ commands, choices, options }: Node): string[] {
  return [...commands.map(({ word }) => word), ...choices, ...options.map(({ word }) => word)];
}

function alternatives(words: readonly string[]): string {
  return [...new Set(words)].join("|");
}

function quote(text: string): string {
  return `'${text.replace(/'/g, "'\\''")}'`;
}
