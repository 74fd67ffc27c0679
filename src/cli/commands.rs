//! The table of commands: each is named here, and nowhere else.

use crate::cli::command::Section::{Common, Hidden, Other};
use crate::cli::command::{Command, command};
use crate::cli::{
    attach, containers, control, exec, history, image_prune, images, info, inspect, load, login,
    logs, manifest, networks, port, pull, reset, rmi, run, save, start, system, tag, unpack, usage,
    version, volumes,
};
use clap::Args as _;

/// In the order of the program's help: Docker's for the common ones, then the alphabet's.
#[rustfmt::skip]
pub(crate) static COMMANDS: &[Command] = &[
    command(Common, &["run", "container run"], run::Arguments::augment_args, |call| call.start(run::run), "Run a command in a new container"),
    command(Common, &["exec", "container exec"], exec::Arguments::augment_args, |call| call.visit(exec::run), "Run a command in a container that runs"),
    command(Common, &["ps", "container ls", "container list", "container ps"], containers::ListArguments::augment_args, |call| call.with(containers::list), "List containers"),
    command(Common, &["pull", "image pull"], pull::Arguments::augment_args, |call| call.with(pull::run), "Download an image from a registry"),
    command(Common, &["images", "image ls", "image list"], images::Arguments::augment_args, |call| call.with(images::run), "List images"),
    command(Common, &["login"], login::LoginArguments::augment_args, |call| call.act(login::login), "Log in to a registry"),
    command(Common, &["logout"], login::LogoutArguments::augment_args, |call| call.act(login::logout), "Log out of a registry"),
    command(Common, &["version"], version::Arguments::augment_args, |call| call.act(version::run), "Show the version"),
    command(Common, &["info", "system info"], info::Arguments::augment_args, |call| call.with(info::run), "Show what this machine offers and where things are kept"),

    command(Other, &["attach", "container attach"], attach::Arguments::augment_args, |call| call.with(attach::run), "Connect this terminal, or these streams, to a container that runs"),
    command(Other, &["container inspect"], inspect::ContainerArguments::augment_args, |call| call.with(inspect::containers), "Show everything known about containers, as JSON"),
    command(Other, &["create", "container create"], run::Arguments::augment_create_args, |call| call.make(run::create), "Make a container that is started another time"),
    command(Other, &["history", "image history"], history::Arguments::augment_args, |call| call.with(history::run), "Show how an image was made"),
    command(Other, &["image exists"], tag::ExistsArguments::augment_args, |call| call.with(tag::exists), "Tell by the exit code whether an image is here"),
    command(Other, &["image inspect"], inspect::ImageArguments::augment_args, |call| call.with(inspect::images), "Show everything known about images, as JSON"),
    command(Other, &["image prune"], image_prune::Arguments::augment_args, |call| call.with(image_prune::run), "Remove images that nobody needs"),
    command(Other, &["inspect"], inspect::Arguments::augment_args, |call| call.with(inspect::run), "Show everything known about containers, images, networks and volumes, as JSON"),
    command(Other, &["kill", "container kill"], control::KillArguments::augment_args, |call| call.with(control::kill), "Send containers a signal"),
    command(Other, &["load", "image load"], load::Arguments::augment_args, |call| call.with(load::run), "Bring images into the store from a file that `save` wrote"),
    command(Other, &["logs", "container logs"], logs::Arguments::augment_args, |call| call.with(logs::run), "Show what a container's command wrote"),
    command(Other, &["manifest inspect"], manifest::Arguments::augment_args, |call| call.act(manifest::run), "Show what a registry has under a name"),
    command(Other, &["network connect"], networks::ConnectArguments::augment_args, |call| call.with(networks::connect), "Connect a container that runs to a network"),
    command(Other, &["network create"], networks::CreateArguments::augment_args, |call| call.with(networks::create), "Make a network"),
    command(Other, &["network disconnect"], networks::DisconnectArguments::augment_args, |call| call.with(networks::disconnect), "Disconnect a container that runs from a network"),
    command(Other, &["network inspect"], networks::InspectArguments::augment_args, |call| call.with(networks::inspect), "Show everything known about networks, as JSON"),
    command(Other, &["network ls", "network list"], networks::ListArguments::augment_args, |call| call.with(networks::list), "List networks"),
    command(Other, &["network prune"], networks::PruneArguments::augment_args, |call| call.with(networks::prune), "Remove networks that no container is in"),
    command(Other, &["network rm", "network remove"], networks::RemoveArguments::augment_args, |call| call.with(networks::remove), "Remove networks"),
    command(Other, &["port", "container port"], port::Arguments::augment_args, |call| call.with(port::run), "Show which ports of a container are published, and where"),
    command(Other, &["restart", "container restart"], start::RestartArguments::augment_args, |call| call.start(|arguments, root, program| start::restart(&arguments, root, program)), "Stop containers, and start them again"),
    command(Other, &["rm", "container rm", "container remove"], containers::RemoveArguments::augment_args, |call| call.with(containers::remove), "Remove containers"),
    command(Other, &["rmi", "image rm", "image remove"], rmi::Arguments::augment_args, |call| call.with(rmi::run), "Remove images"),
    command(Other, &["save", "image save"], save::Arguments::augment_args, |call| call.with(save::run), "Write images to one file"),
    command(Other, &["start", "container start"], start::StartArguments::augment_args, |call| call.start(|arguments, root, program| start::start(&arguments, root, program)), "Start containers that were made before, or have ended"),
    command(Other, &["stop", "container stop"], control::StopArguments::augment_args, |call| call.with(control::stop), "Ask containers to end, and kill them if they do not"),
    command(Other, &["system check"], system::CheckArguments::augment_args, |call| call.with(system::check), "Check that images are what was pulled, to the last file"),
    command(Other, &["system df"], usage::Arguments::augment_args, |call| call.with(usage::run), "Show what takes the space, and what of it nothing needs"),
    command(Other, &["system reset"], reset::Arguments::augment_args, |call| call.with(reset::run), "Remove all containers, images, volumes and networks, and the directory they are kept in"),
    command(Other, &["tag", "image tag"], tag::TagArguments::augment_args, |call| call.with(tag::tag), "Give an image one more name"),
    command(Other, &["untag", "image untag"], tag::UntagArguments::augment_args, |call| call.with(tag::untag), "Take names away from an image, which stays"),
    command(Other, &["volume create"], volumes::CreateArguments::augment_args, |call| call.with(volumes::create), "Make a volume"),
    command(Other, &["volume inspect"], volumes::InspectArguments::augment_args, |call| call.with(volumes::inspect), "Show everything known about volumes, as JSON"),
    command(Other, &["volume ls", "volume list"], volumes::ListArguments::augment_args, |call| call.with(volumes::list), "List volumes"),
    command(Other, &["volume prune"], volumes::PruneArguments::augment_args, |call| call.with(volumes::prune), "Remove volumes that no container uses"),
    command(Other, &["volume rm", "volume remove"], volumes::RemoveArguments::augment_args, |call| call.with(volumes::remove), "Remove volumes"),
    command(Other, &["wait", "container wait"], control::WaitArguments::augment_args, |call| call.with(control::wait), "Wait until containers have ended, and print their exit codes"),

    command(Hidden, &["unpack-layer"], unpack::Arguments::augment_args, |call| call.act(unpack::run), "Unpack one layer into a directory"),
];

/// Words that commands are grouped by, and what each group is for.
pub(crate) const GROUPS: &[(&str, &str)] = &[
    ("container", "Manage containers"),
    ("image", "Manage images"),
    ("manifest", "Look at what registries have"),
    ("network", "Manage networks"),
    ("system", "Manage ddock"),
    ("volume", "Manage volumes"),
];

/// Returns the command of this name: `ps`, or `container ls`.
pub(crate) fn find(name: &str) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.names.contains(&name))
}

/// Returns each command of a group, with the name that it has there first.
pub(crate) fn of_group(group: &str) -> impl Iterator<Item = (&'static str, &'static Command)> {
    COMMANDS.iter().filter_map(move |command| {
        let verb = |name: &&'static str| name.split_once(' ').filter(|(word, _)| *word == group);
        let (_, verb) = command.names.iter().find_map(verb)?;
        Some((verb, command))
    })
}
