// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Ownable2StepUpgradeable} from "@openzeppelin/contracts-upgradeable/access/Ownable2StepUpgradeable.sol";
import {UUPSUpgradeable} from "@openzeppelin/contracts-upgradeable/proxy/utils/UUPSUpgradeable.sol";
import {AppAuth} from "../src/AppAuth.sol";
import {Governed} from "../src/Governed.sol";
import {IAppAuthBatches} from "../src/IAppAuthBatches.sol";
import {IKmsAuthBatches} from "../src/IKmsAuthBatches.sol";
import {IKmsAuthManagement} from "../src/IKmsAuthManagement.sol";
import {KmsAuth} from "../src/KmsAuth.sol";
import {VM} from "./Cheats.sol";

/// @dev Anybody tries anything on a registry and its applications. Beside them stands the plainest model of what may
/// come of it, in which only a contract's owner changes its policy; a call that succeeds or fails against the model
/// fails the run.
contract Handler {
    struct Policy {
        mapping(bytes32 => bool) composeHashes;
        mapping(bytes32 => bool) devices;
        bool anyDevice;
        bool upToDate;
        bool upgradesDisabled;
        address implementation;
    }

    KmsAuth public immutable kms;
    address[] public actors;
    address[] public implementations;
    /// @dev One registered from the start, one deployed but unknown to the registry, one address without code.
    address[] public apps;
    bytes32[] public hashes;

    mapping(address contract_ => address) public owner;
    mapping(address contract_ => address) public pendingOwner;
    mapping(address app => bool) public registered;
    mapping(address app => bool) public barred;
    mapping(address contract_ => bool) public paused;
    mapping(bytes32 image => bool) public images;
    mapping(bytes32 measurement => bool) public kmsMeasurements;
    mapping(bytes32 device => bool) public kmsDevices;
    mapping(address app => Policy) private _policies;

    constructor(KmsAuth kms_, address[] memory apps_, address[] memory actors_, address[] memory implementations_) {
        kms = kms_;
        apps = apps_;
        actors = actors_;
        implementations = implementations_;
        hashes = [keccak256("first"), keccak256("second")];
        owner[address(kms)] = actors[0];
        registered[apps[0]] = true;
        for (uint256 i = 0; i < 2; i++) {
            owner[apps[i]] = actors[1];
            _policies[apps[i]].implementation = implementations[0];
        }
    }

    function composeHashAllowed(address app, bytes32 hash) public view returns (bool) {
        return _policies[app].composeHashes[hash];
    }

    function deviceAllowed(address app, bytes32 device) public view returns (bool) {
        return _policies[app].anyDevice || _policies[app].devices[device];
    }

    function statusAllowed(address app, string memory status) public view returns (bool) {
        return !_policies[app].upToDate || keccak256(bytes(status)) == keccak256("UpToDate");
    }

    function implementation(address app) public view returns (address) {
        return _policies[app].implementation;
    }

    function register(uint256 actor, uint256 app) external {
        address appId = apps[app % apps.length];
        address sender = ownerOrAnybody(actor, address(kms));
        bool expected = !barred[appId] || sender == owner[address(kms)];
        attempt(sender, address(kms), abi.encodeCall(KmsAuth.registerApp, (appId)), expected);
        if (!expected) return;
        registered[appId] = true;
        barred[appId] = false;
    }

    function deregister(uint256 actor, uint256 app) external {
        address appId = apps[app % apps.length];
        if (attemptAsOwner(actor, address(kms), abi.encodeCall(IKmsAuthManagement.deregisterApp, (appId)))) {
            registered[appId] = false;
            barred[appId] = true;
        }
    }

    function setPaused(uint256 actor, uint256 target, bool pause) external {
        address contract_ = governed(target);
        address sender = ownerOrAnybody(actor, contract_);
        bool expected = sender == owner[contract_] && paused[contract_] != pause;
        attempt(
            sender,
            contract_,
            pause ? abi.encodeCall(Governed.pause, ()) : abi.encodeCall(Governed.unpause, ()),
            expected
        );
        if (expected) paused[contract_] = pause;
    }

    function setAllComposeHashes(uint256 actor, uint256 app, bool allowed) external {
        address target = deployed(app);
        bytes memory call = allowed
            ? abi.encodeCall(IAppAuthBatches.addComposeHashes, (hashes))
            : abi.encodeCall(IAppAuthBatches.removeComposeHashes, (hashes));
        if (!attemptAsOwner(actor, target, call)) return;
        for (uint256 i = 0; i < hashes.length; i++) {
            _policies[target].composeHashes[hashes[i]] = allowed;
        }
    }

    function setAllImages(uint256 actor, bool allowed) external {
        bytes memory call = allowed
            ? abi.encodeCall(IKmsAuthManagement.addOsImageHashes, (hashes))
            : abi.encodeCall(IKmsAuthManagement.removeOsImageHashes, (hashes));
        if (!attemptAsOwner(actor, address(kms), call)) return;
        for (uint256 i = 0; i < hashes.length; i++) {
            images[hashes[i]] = allowed;
        }
    }

    function setImage(uint256 actor, uint256 hash, bool allowed) external {
        bytes32 image = anyHash(hash);
        bytes memory call = allowed
            ? abi.encodeCall(KmsAuth.addOsImageHash, (image))
            : abi.encodeCall(KmsAuth.removeOsImageHash, (image));
        if (attemptAsOwner(actor, address(kms), call)) images[image] = allowed;
    }

    function setKmsMeasurement(uint256 actor, uint256 hash, bool allowed) external {
        bytes32 measurement = anyHash(hash);
        bytes memory call = allowed
            ? abi.encodeCall(KmsAuth.addKmsAggregatedMr, (measurement))
            : abi.encodeCall(KmsAuth.removeKmsAggregatedMr, (measurement));
        if (attemptAsOwner(actor, address(kms), call)) kmsMeasurements[measurement] = allowed;
    }

    function setKmsDevice(uint256 actor, uint256 hash, bool allowed) external {
        bytes32 device = anyHash(hash);
        bytes memory call = allowed
            ? abi.encodeCall(KmsAuth.addKmsDevice, (device))
            : abi.encodeCall(KmsAuth.removeKmsDevice, (device));
        if (attemptAsOwner(actor, address(kms), call)) kmsDevices[device] = allowed;
    }

    function setAllKmsMeasurements(uint256 actor, bool allowed) external {
        bytes memory call = allowed
            ? abi.encodeCall(IKmsAuthBatches.addKmsAggregatedMrs, (hashes))
            : abi.encodeCall(IKmsAuthBatches.removeKmsAggregatedMrs, (hashes));
        if (!attemptAsOwner(actor, address(kms), call)) return;
        for (uint256 i = 0; i < hashes.length; i++) {
            kmsMeasurements[hashes[i]] = allowed;
        }
    }

    function setAllKmsDevices(uint256 actor, bool allowed) external {
        bytes memory call = allowed
            ? abi.encodeCall(IKmsAuthBatches.addKmsDevices, (hashes))
            : abi.encodeCall(IKmsAuthBatches.removeKmsDevices, (hashes));
        if (!attemptAsOwner(actor, address(kms), call)) return;
        for (uint256 i = 0; i < hashes.length; i++) {
            kmsDevices[hashes[i]] = allowed;
        }
    }

    function setComposeHash(uint256 actor, uint256 app, uint256 hash, bool allowed) external {
        address target = deployed(app);
        bytes32 value = anyHash(hash);
        bytes memory call = allowed
            ? abi.encodeCall(AppAuth.addComposeHash, (value))
            : abi.encodeCall(AppAuth.removeComposeHash, (value));
        if (attemptAsOwner(actor, target, call)) _policies[target].composeHashes[value] = allowed;
    }

    function setDevice(uint256 actor, uint256 app, uint256 hash, bool allowed) external {
        address target = deployed(app);
        bytes32 value = anyHash(hash);
        bytes memory call =
            allowed ? abi.encodeCall(AppAuth.addDevice, (value)) : abi.encodeCall(AppAuth.removeDevice, (value));
        if (attemptAsOwner(actor, target, call)) _policies[target].devices[value] = allowed;
    }

    function setAnyDevice(uint256 actor, uint256 app, bool allowed) external {
        address target = deployed(app);
        bytes memory call = abi.encodeCall(AppAuth.setAllowAnyDevice, (allowed));
        if (attemptAsOwner(actor, target, call)) _policies[target].anyDevice = allowed;
    }

    function setUpToDate(uint256 actor, uint256 app, bool demanded) external {
        address target = deployed(app);
        bytes memory call = abi.encodeCall(AppAuth.setRequireTcbUpToDate, (demanded));
        if (attemptAsOwner(actor, target, call)) _policies[target].upToDate = demanded;
    }

    function disableUpgrades(uint256 actor, uint256 app) external {
        address target = deployed(app);
        if (attemptAsOwner(actor, target, abi.encodeCall(AppAuth.disableUpgrades, ()))) {
            _policies[target].upgradesDisabled = true;
        }
    }

    function upgrade(uint256 actor, uint256 app, uint256 to) external {
        address target = deployed(app);
        address sender = ownerOrAnybody(actor, target);
        address next = implementations[to % implementations.length];
        bytes memory call = abi.encodeCall(UUPSUpgradeable.upgradeToAndCall, (next, ""));
        bool expected = sender == owner[target] && !_policies[target].upgradesDisabled;
        attempt(sender, target, call, expected);
        if (expected) _policies[target].implementation = next;
    }

    function transferOwnership(uint256 actor, uint256 target, uint256 to) external {
        address contract_ = governed(target);
        address heir = anybody(to);
        bytes memory call = abi.encodeCall(Ownable2StepUpgradeable.transferOwnership, (heir));
        if (attemptAsOwner(actor, contract_, call)) pendingOwner[contract_] = heir;
    }

    function acceptOwnership(uint256 actor, uint256 target) external {
        address contract_ = governed(target);
        address sender = anybody(actor);
        bool expected = sender == pendingOwner[contract_];
        attempt(sender, contract_, abi.encodeCall(Ownable2StepUpgradeable.acceptOwnership, ()), expected);
        if (!expected) return;
        owner[contract_] = sender;
        pendingOwner[contract_] = address(0);
    }

    function initializeAgain(uint256 actor, uint256 app) external {
        address sender = anybody(actor);
        attempt(sender, address(kms), abi.encodeCall(KmsAuth.initialize, (sender, sender)), false);
        bytes memory call = abi.encodeWithSignature(
            "initialize(address,bool,bool,bytes32,bytes32)", sender, false, true, hashes[0], hashes[0]
        );
        attempt(sender, deployed(app), call, false);
    }

    function attemptAsOwner(uint256 actor, address target, bytes memory call) private returns (bool expected) {
        address sender = ownerOrAnybody(actor, target);
        expected = sender == owner[target];
        attempt(sender, target, call, expected);
    }

    function attempt(address sender, address target, bytes memory call, bool expected) private {
        VM.prank(sender);
        (bool done,) = target.call(call);
        VM.assertTrue(done == expected, expected ? "a rightful call failed" : "a wrongful call succeeded");
    }

    function anybody(uint256 seed) private view returns (address) {
        return actors[seed % actors.length];
    }

    /// @dev The owner in half of all attempts, so that policy gets somewhere.
    function ownerOrAnybody(uint256 seed, address target) private view returns (address) {
        return seed % 2 == 0 ? owner[target] : anybody(seed / 2);
    }

    function anyHash(uint256 seed) private view returns (bytes32) {
        return hashes[seed % hashes.length];
    }

    function deployed(uint256 seed) private view returns (address) {
        return apps[seed % 2];
    }

    function governed(uint256 seed) private view returns (address) {
        return seed % 3 == 0 ? address(kms) : apps[seed % 3 - 1];
    }
}
